"""The agent's part: poll a backend, claim flow runs and hand them to a platform that runs them."""
