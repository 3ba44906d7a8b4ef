"""What travels and what is stored: pure definitions, no I/O."""
