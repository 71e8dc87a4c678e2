"""`python -m hssl_ray` is `hssl-ray`."""

from hssl_ray.cli import main

if __name__ == "__main__":
    main()
