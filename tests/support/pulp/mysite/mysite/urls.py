from django.http import HttpResponse
from django.urls import path

from .tasks import bake


def order(request, cakes):
    if cakes == 0:
        return HttpResponse("nothing to do")
    bake.delay(cakes)
    return HttpResponse("ordered")


urlpatterns = [path("order/<int:cakes>", order)]
