from celery import shared_task


@shared_task
def bake(cakes):
    if cakes > 100:
        return "too many"
    with open("/var/lib/mysite/baked", "a") as f:
        f.write("%d\n" % cakes)
    return "done"
