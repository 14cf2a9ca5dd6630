"""What keeps runs apart, as agent, server and command line share it."""
