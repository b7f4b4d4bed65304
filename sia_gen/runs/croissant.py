"""Croissant metadata (MLCommons, version 1.0): a JSON-LD file that dataset search engines read."""

from __future__ import annotations

from typing import Any

from sia_gen.core.version import __version__

CONTEXT: dict[str, Any] = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    "citeAs": "cr:citeAs",
    "column": "cr:column",
    "conformsTo": "dct:conformsTo",
    "cr": "http://mlcommons.org/croissant/",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "dct": "http://purl.org/dc/terms/",
    "examples": {"@id": "cr:examples", "@type": "@json"},
    "extract": "cr:extract",
    "field": "cr:field",
    "fileObject": "cr:fileObject",
    "fileProperty": "cr:fileProperty",
    "fileSet": "cr:fileSet",
    "format": "cr:format",
    "includes": "cr:includes",
    "isLiveDataset": "cr:isLiveDataset",
    "jsonPath": "cr:jsonPath",
    "key": "cr:key",
    "md5": "cr:md5",
    "parentField": "cr:parentField",
    "path": "cr:path",
    "recordSet": "cr:recordSet",
    "references": "cr:references",
    "regex": "cr:regex",
    "repeated": "cr:repeated",
    "replace": "cr:replace",
    "samplingRate": "cr:samplingRate",
    "sc": "https://schema.org/",
    "separator": "cr:separator",
    "source": "cr:source",
    "subField": "cr:subField",
    "transform": "cr:transform",
}
MIME = {".png": "image/png", ".webp": "image/webp", ".jpg": "image/jpeg"}
CITE = (
    "Zhang, Xu, Zhou: RealNet: A Feature Selection Network with Realistic Synthetic Anomaly for"
    " Anomaly Detection. CVPR 2024"
)


def _field(name: str, kind: str, what: str, extract: dict[str, str], **more: Any) -> dict[str, Any]:
    return {
        "@type": "cr:Field",
        "@id": f"images/{name}",
        "name": name,
        "description": what,
        "dataType": kind,
        "source": {"fileSet": {"@id": "image-files"}, "extract": extract, **more},
    }


def describe(
    *,
    name: str,
    description: str,
    shards: list[dict[str, Any]],
    published: str,
    license_url: str,
) -> dict[str, Any]:
    """Returns the metadata of a set of shards (entries of index.json) as a JSON-LD object."""
    files = [
        {
            "@type": "cr:FileObject",
            "@id": shard["file"],
            "name": shard["file"],
            "contentUrl": shard["file"],
            "contentSize": f"{shard['bytes']} B",
            "encodingFormat": "application/x-tar",
            "sha256": shard["sha256"],
        }
        for shard in shards
    ]
    members = {
        "@type": "cr:FileSet",
        "@id": "image-files",
        "name": "image-files",
        "description": "The images inside the shards.",
        "containedIn": [{"@id": shard["file"]} for shard in shards],
        "encodingFormat": list(MIME.values()),
        "includes": [f"*{suffix}" for suffix in MIME],
    }
    records = {
        "@type": "cr:RecordSet",
        "@id": "images",
        "name": "images",
        "description": "One record an image; its metadata lies beside it as <key>.json.",
        "key": {"@id": "images/file"},
        "field": [
            _field("file", "sc:Text", "Name in the shard.", {"fileProperty": "filename"}),
            _field("image", "sc:ImageObject", "The image.", {"fileProperty": "content"}),
        ],
    }
    return {
        "@context": CONTEXT,
        "@type": "sc:Dataset",
        "name": name,
        "description": description,
        "conformsTo": "http://mlcommons.org/croissant/1.0",
        "citeAs": CITE,
        "creator": {"@type": "Organization", "name": "sia-gen"},
        "datePublished": published,
        "license": license_url,
        "url": ".",
        "version": __version__,
        "distribution": [*files, members] if files else [],
        "recordSet": [records] if files else [],
    }
