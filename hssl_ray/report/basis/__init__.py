"""What a steerable basis can do, in tables and pictures."""
