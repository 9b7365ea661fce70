"""The ports bound to asyncio and the operating system; threads live here and nowhere else."""
