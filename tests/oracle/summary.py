"""What the oracle's log says: how many calls were compared, and each that differs. Ends with 1 where one does.

    summary.py LOG
"""
import collections
import json
import sys

SHOWN = 40


def main():
    with open(sys.argv[1], encoding="utf-8", errors="replace") as log:
        calls = [json.loads(line) for line in log]
    counts = collections.Counter((call["call"], call["result"]) for call in calls)
    for (call, result), count in sorted(counts.items()):
        print("%-8s %-8s %6d" % (call, result, count))
    reasons = collections.Counter(call["reason"] for call in calls if call["result"] == "skipped")
    for reason, count in reasons.most_common():
        print("skipped: %s: %d" % (reason, count))
    wrong = [call for call in calls if call["result"] in ("differs", "broken")]
    for call in wrong[:SHOWN]:
        print("\n%(call)s %(result)s in %(test)s" % call)
        for key in ("error", "reason", "difference", "words"):
            if call.get(key):
                print("    %s: %s" % (key, call[key].strip()))
    print("\n%d calls, %d differ" % (len(calls), len(wrong)))
    return bool(wrong) or not calls


sys.exit(main())
