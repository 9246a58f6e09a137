"""What a server of scores does apart from Ray: limits, decoding, answers, refusals, counts."""
