"""Delays by airline and hour in event time, with late flights and dead letters: the job of `streamkit demo`.

It is installed with the package, so that the demo runs anywhere: read it in `streamkit/demo/flights.py`. Here
it runs on a cluster of yours:

    streamkit demo --bootstrap HOST:PORT         # sends the flights, runs the job, verifies the result
    streamkit worker apps.flights:app            # runs the job only
"""

from streamkit.demo.flights import app

if __name__ == "__main__":
    app.run()
