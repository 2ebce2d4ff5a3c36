"""Who asks, and what they may: tokens, tickets, scopes, tenants, limits."""
