"""Programs as their users start them."""
