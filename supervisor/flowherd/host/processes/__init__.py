"""Everything about operating system processes: fork servers, runners, process trees, cgroups, locks."""
