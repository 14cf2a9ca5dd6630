"""The Prefect 0.x/1.x GraphQL dialect, from the client's side: transport, the agent's part, and the user's part."""
