"""``api.bucketsd.pb.APIService``: buckets by path."""

__all__: list[str] = []
