"""Listings of S3, a page at a time: s3fs gives all of them at once, two kilobytes for each."""

from collections.abc import Mapping
from typing import Any, NamedTuple

PAGE = 1000
"""Names in an answer of S3: it gives no more."""


class Page(NamedTuple):
    """Some of what is in a folder, in the order of names. more: for the next page; None: the last.

    entries: the paths of files, in their bucket, and what S3 says of each (`Size`, `ETag`).
    """

    entries: list[tuple[str, Mapping[str, Any]]]
    more: str | None


def in_pages(url: str, options: Mapping[str, Any]) -> bool:
    """Whether what is below a url can be listed so. options: of s3fs, for this url."""
    return url.startswith(("s3://", "s3a://")) and not options.get("version_aware")


def page(fs: Any, path: str, more: str | None = None, *, deep: bool = True) -> Page:
    """One page of what is in a folder. It is one request, and raises what the store raises.

    fs, path: as `stores.filesystem` gives them. more: what the page before said. deep: at any
    depth, or only what lies in the folder itself.
    """
    bucket, key, _ = fs.split_path(path.rstrip("/"))
    asked = {"Bucket": bucket, "Prefix": f"{key}/" if key else "", "MaxKeys": PAGE}
    asked |= {} if deep else {"Delimiter": "/"}
    asked |= {"ContinuationToken": more} if more else {}
    answer = fs.call_s3("list_objects_v2", **asked, **fs.req_kw)
    entries = [(f"{bucket}/{one['Key']}", one) for one in answer.get("Contents", ())]
    return Page(entries, answer["NextContinuationToken"] if answer.get("IsTruncated") else None)
