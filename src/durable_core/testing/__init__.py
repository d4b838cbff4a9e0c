"""The testing kit: a store in memory, a contract for stores; nothing is imported until asked."""
