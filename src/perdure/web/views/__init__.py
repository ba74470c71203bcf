"""What pages show, decided without a page: data in, data or safe markup out, tested without a browser."""
