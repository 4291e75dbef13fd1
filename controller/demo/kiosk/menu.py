"""What the kiosk sells."""

PRICES = {"coffee": 3, "tea": 2, "cake": 4}


def price(name, members=False):
    if name not in PRICES:
        return None
    cost = PRICES[name]
    if members:
        cost = max(1, cost - 1)
    return cost


def recommend(hour):
    if hour < 11:
        return "coffee"
    if hour < 17:
        return "cake"
    return "tea"
