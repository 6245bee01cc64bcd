"""Small pieces that other tools load into their own processes."""
