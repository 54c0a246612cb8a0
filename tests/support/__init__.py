"""What the tests on a real cluster share: clusters, client programs, faults and leak checks."""
