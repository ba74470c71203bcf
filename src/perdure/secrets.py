"""Where secrets are found: resolvers of your own, and which secrets this process resolves. See `perdure.Secret`."""

from perdure.codec.secret_sources import register, restrict

__all__ = ["register", "restrict"]
