"""What tests of several folders share: small models and shops, servers, finished runs, programs for several ranks."""
