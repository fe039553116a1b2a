"""The vocabulary: what is said on the streams, one module per step of the loop.

Importing this package registers every event type.
"""

from __future__ import annotations

from topology.payloads.collaboration import HelpOffered as HelpOffered
from topology.payloads.collaboration import HelpRequested as HelpRequested
from topology.payloads.diagnoses import Candidate as Candidate
from topology.payloads.diagnoses import ProblemDiagnosed as ProblemDiagnosed
from topology.payloads.findings import AnomalyCleared as AnomalyCleared
from topology.payloads.findings import AnomalyDetected as AnomalyDetected
from topology.payloads.findings import Finding as Finding
from topology.payloads.findings import ForecastWarned as ForecastWarned
from topology.payloads.findings import PatternMatched as PatternMatched
from topology.payloads.findings import Severity as Severity
from topology.payloads.healing import ActionFinished as ActionFinished
from topology.payloads.healing import ActionRequest as ActionRequest
from topology.payloads.healing import ActionStarted as ActionStarted
from topology.payloads.healing import ApprovalGiven as ApprovalGiven
from topology.payloads.healing import Autonomy as Autonomy
from topology.payloads.healing import OutcomeVerified as OutcomeVerified
from topology.payloads.healing import PlanProposed as PlanProposed
from topology.payloads.incidents import IncidentOpened as IncidentOpened
from topology.payloads.incidents import IncidentResolved as IncidentResolved
from topology.payloads.incidents import IncidentUpdated as IncidentUpdated
from topology.payloads.incidents import Symptom as Symptom
from topology.payloads.lessons import ExperienceRecorded as ExperienceRecorded
from topology.payloads.lessons import PatternPromoted as PatternPromoted
from topology.payloads.lessons import PatternProposed as PatternProposed
from topology.payloads.lessons import SolutionRevised as SolutionRevised
from topology.payloads.operation import AnswerRecorded as AnswerRecorded
from topology.payloads.operation import EntryCameLate as EntryCameLate
from topology.payloads.operation import EventDeadLettered as EventDeadLettered
from topology.payloads.operation import EventsShed as EventsShed
from topology.payloads.operation import LettersRequested as LettersRequested
from topology.payloads.operation import LettersTaken as LettersTaken
from topology.payloads.operation import ReplayEnded as ReplayEnded
from topology.payloads.operation import TickPassed as TickPassed
from topology.payloads.signals import AlertFired as AlertFired
from topology.payloads.signals import AlertResolved as AlertResolved
from topology.payloads.signals import ChangeApplied as ChangeApplied
from topology.payloads.signals import HeartbeatSeen as HeartbeatSeen
from topology.payloads.signals import LogLevel as LogLevel
from topology.payloads.signals import LogWritten as LogWritten
from topology.payloads.signals import MetricSampled as MetricSampled
from topology.payloads.signals import Signal as Signal
