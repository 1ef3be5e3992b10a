"""What the report shows of the study `ddpm` alone."""

from pipeline.report.views import Views
from pipeline.studies.ddpm.protocol import describe, find_differences

VIEWS = Views(describe=describe, find_differences=find_differences)
