"""Who answers questions about pictures."""
