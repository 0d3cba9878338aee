"""What any model is asked, and what generation from any model shares."""
