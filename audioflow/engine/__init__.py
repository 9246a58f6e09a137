"""The jobs, and everything that runs on Ray. The only folder that imports ray."""
