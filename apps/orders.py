"""One topic of orders, three partitions, two ways of messaging.

*Point-to-point*: the workers of one app are one consumer group. They share the partitions, so each order is
handled by one of them, and all orders of a product by the same one, in order:

    streamkit worker apps.orders:warehouse -w 3

*Publish-subscribe*: another app is another group. It sees every order too, whatever the first one does:

    streamkit worker apps.orders:billing

Orders come from any producer of Kafka's protocol, or from here:

    python -m apps.orders 100 Laptop Phone Tablet
"""

from __future__ import annotations

import asyncio
import sys

import msgspec

import streamkit as sk


class Order(msgspec.Struct):
    order_id: int
    product: str
    amount: float = 0.0


class Parcel(msgspec.Struct):
    order_id: int
    product: str
    shelf: int  # where the product's next item lies


class Invoice(msgspec.Struct):
    order_id: int
    total: float


# -- one group: each order is packed once -------------------------------------------------------------------

warehouse = sk.App("warehouse")
orders = warehouse.topic("orders", key=str, value=Order, partitions=3)
parcels = warehouse.topic("parcels", key=str, value=Parcel, partitions=3)
taken = warehouse.table("taken", key=str, default=int)


@warehouse.agent(orders, sink=parcels)
def pack(order: Order, record: sk.Record[str]) -> Parcel:
    """Items leave the shelves in turn; the key of an order is its product."""
    taken[record.key] += 1
    return Parcel(order.order_id, order.product, shelf=taken[record.key])


# -- another group: each order is invoiced too --------------------------------------------------------------

billing = sk.App("billing")
VAT = 0.19


@billing.agent(billing.topic("orders", key=str, value=Order, partitions=3), sink="invoices")
def invoice(order: Order) -> Invoice:
    return Invoice(order.order_id, total=round(order.amount * (1 + VAT), 2))


# -- a producer ---------------------------------------------------------------------------------------------


async def place(count: int, products: list[str]) -> None:
    """Send `count` orders of the products in turn; each is acknowledged when this returns."""
    shop = sk.App("shop")
    topic = shop.topic("orders", key=str, value=Order, partitions=3)
    async with shop:
        for order_id in range(1, count + 1):
            product = products[order_id % len(products)]
            await topic.send(Order(order_id, product, amount=order_id * 10), key=product)


if __name__ == "__main__":
    asyncio.run(place(int(sys.argv[1]), sys.argv[2:]))
