"""`streams bench`: measures the service on servers of its own and checks what it stored."""
