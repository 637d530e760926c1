"""A stand-in for AWS's Price List API: real HTTP, GetProducts' JSON, filters that do filter."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


def ec2(region: str, instance_type: str, price: float, **attributes: str) -> dict[str, Any]:
    """Return an EC2 instance type as AWS lists it, reserved terms and all."""
    known = {
        "instanceType": instance_type,
        "vcpu": "4",
        "memory": "16 GiB",
        "operatingSystem": "Linux",
        "tenancy": "Shared",
        "preInstalledSw": "NA",
        "capacitystatus": "Used",
        "marketoption": "OnDemand",
        "licenseModel": "No License required",
        "operation": "RunInstances",
        "usagetype": f"EUW3-BoxUsage:{instance_type}",
    }
    listed = {"servicecode": "AmazonEC2", "productFamily": "Compute Instance"}
    return product(region, price, "Hrs", listed | known | attributes)


def emr(region: str, instance_type: str, price: float, **attributes: str) -> dict[str, Any]:
    """Return EMR's fee for an instance type."""
    known = {
        "instanceType": instance_type,
        "softwareType": "EMR",
        "instanceFamily": "General purpose",
        "operation": "",
        "usagetype": f"EUW3-BoxUsage:{instance_type}",
    }
    listed = {"servicecode": "ElasticMapReduce", "productFamily": "Elastic Map Reduce Instance"}
    return product(region, price, "Hours", listed | known | attributes)


def gp3(region: str, price: float, **attributes: str) -> dict[str, Any]:
    """Return gp3 storage."""
    known = {"volumeApiName": "gp3", "usagetype": "EUW3-EBS:VolumeUsage.gp3"}
    listed = {"servicecode": "AmazonEC2", "productFamily": "Storage"}
    return product(region, price, "GB-Mo", listed | known | attributes)


def product(region: str, price: float, unit: str, attributes: dict[str, str]) -> dict[str, Any]:
    """Return one element of a PriceList, before it is made a string."""
    sku = f"SKU{abs(hash((region, price, *attributes.items()))):X}"[:16]
    term, rate = f"{sku}.JRTCKXETXF", f"{sku}.JRTCKXETXF.6YS6EN2CT7"
    dimension = {
        "unit": unit,
        "beginRange": "0",
        "endRange": "Inf",
        "description": f"${price} per {unit}",
        "appliesTo": [],
        "rateCode": rate,
        "pricePerUnit": {"USD": f"{price:.10f}"},
    }
    on_demand = {
        "sku": sku,
        "offerTermCode": "JRTCKXETXF",
        "effectiveDate": "2026-11-01T00:00:00Z",
        "termAttributes": {},
        "priceDimensions": {rate: dimension},
    }
    reserved = {
        **on_demand,
        "priceDimensions": {rate: dimension | {"pricePerUnit": {"USD": "0.0100000000"}}},
        "termAttributes": {"LeaseContractLength": "3yr", "PurchaseOption": "No Upfront"},
    }
    place = {"regionCode": region, "locationType": "AWS Region"}
    family = attributes.pop("productFamily")
    return {
        "serviceCode": attributes["servicecode"],
        "product": {"sku": sku, "productFamily": family, "attributes": place | attributes},
        "terms": {"OnDemand": {term: on_demand}, "Reserved": {f"{sku}.R": reserved}},
        "version": "20261101000000",
        "publicationDate": "2026-11-01T00:00:00Z",
    }


@contextmanager
def serving(products: list[dict[str, Any]] | None, page_size: int = 1) -> Iterator[str]:
    """Serve *products*, *page_size* of them to a page; yield the endpoint's URL.

    Without products everybody is refused.
    """

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            request = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            assert self.headers["X-Amz-Target"] == "AWSPriceListService.GetProducts"
            if products is None:
                refusal = {"__type": "AccessDeniedException", "Message": "You may not ask."}
                self._send(json.dumps(refusal).encode(), 400)
                return
            found = [json.dumps(one) for one in products if _matches(one, request)]
            start = int(request.get("NextToken", 0))
            answer = {"FormatVersion": "aws_v1", "PriceList": found[start : start + page_size]}
            if start + page_size < len(found):
                answer["NextToken"] = str(start + page_size)
            self._send(json.dumps(answer).encode())

        def _send(self, body: bytes, status: int = 200) -> None:
            self.send_response(status)
            self.send_header("Content-Type", "application/x-amz-json-1.1")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        server.server_close()


def _matches(one: dict[str, Any], request: dict[str, Any]) -> bool:
    fields = one["product"]["attributes"] | {"productFamily": one["product"]["productFamily"]}
    wanted = {each["Field"]: each["Value"] for each in request["Filters"]}
    assert {each["Type"] for each in request["Filters"]} == {"TERM_MATCH"}
    same_service = one["serviceCode"] == request["ServiceCode"]
    return same_service and all(fields.get(name) == value for name, value in wanted.items())
