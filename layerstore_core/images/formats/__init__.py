"""Image archives and directories: Docker's, OCI layouts, and skopeo's."""
