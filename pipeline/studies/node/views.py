"""What the report shows of the study `node` alone."""

from pipeline.report.views import Views
from pipeline.studies.node.protocol import describe

VIEWS = Views(describe=describe)
