"""The transaction coordinator: transactional ids, their producers, and how each transaction ends."""
