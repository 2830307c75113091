"""Rules about the host: firmware, kernel, processors, memory."""
