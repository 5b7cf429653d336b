"""Fast paths of a CPU behind engines and training: each computes what the plain path does, sooner."""
