"""The parts of ReDi: maps, prompts, the recover network, the discriminate network."""
