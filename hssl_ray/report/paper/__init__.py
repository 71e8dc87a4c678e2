"""The paper's tables and figure, from whatever trials a store has."""
