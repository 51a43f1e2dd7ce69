"""Host tool of the on-device training framework."""
