"""Taking stock: nobody does that in the demo, so it stays at 0 %."""


def count(shelves):
    total = 0
    for shelf in shelves:
        total += len(shelf)
    return total
