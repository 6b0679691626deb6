"""What the client tests share: the cluster as a child process, S3 clients, raw HTTP, test data."""
