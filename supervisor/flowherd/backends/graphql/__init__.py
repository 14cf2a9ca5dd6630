"""The GraphQL API of Prefect 0.x/1.x, from the client's side: transport, the agent's backend, and query literals."""
