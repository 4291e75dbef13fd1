"""What a small shop sells."""


class Menu:
    def __init__(self, goods):
        self.goods = goods

    def price(self, name, member=False):
        cost = self.goods[name]
        if member:
            cost -= 1
        return cost


def cheapest(goods):
    best = None
    for name in sorted(goods):
        if best is None or goods[name] < goods[best]:
            best = name
    return best


def debug(goods):  # pragma: no cover
    print(goods)
