"""What the parts of an answer cost on this machine at this moment, without anything of the product in them."""
