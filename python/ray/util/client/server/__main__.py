"""``python -m ray.util.client.server``."""

from ray.util.client.server.server import main

if __name__ == "__main__":
    main()
