"""How fast the platform is, beside an empty echo and beside other servers, measured so that another person can check it."""
