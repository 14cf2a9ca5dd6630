"""Operating system processes: fork servers, runners, process trees, cgroups."""
