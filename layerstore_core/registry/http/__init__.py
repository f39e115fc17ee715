"""HTTP to a registry: connections, redirects, authentication, and trying again."""
