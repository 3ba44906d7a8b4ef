"""What is done to the service, one file per kind of fault."""
