"""The shop's web application, under gunicorn."""
import os

from flask import Flask, abort, jsonify, request

from shop import catalogue, queue

app = Flask(__name__)


@app.route("/price/<name>")
def price(name):
    try:
        cost = catalogue.price(name, vip="vip" in request.args)
    except KeyError:
        abort(404)
    return jsonify(name=name, price=cost, pid=os.getpid())


@app.route("/cheapest")
def cheapest():
    return jsonify(name=catalogue.cheapest())


@app.route("/order/<kind>/<int:count>", methods=["POST"])
def order(kind, count):
    names = [queue.put(kind, n) for n in range(count)]
    return jsonify(queued=names), 202


@app.route("/done")
def done():
    return jsonify(done=queue.done())
