"""What an agent needs of a backend, in flowherd's own words; one sub-package a dialect."""
