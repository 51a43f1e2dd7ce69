"""Flower's ClientApp of a board: one train message is one round."""

from collections.abc import Callable
from contextlib import AbstractContextManager

from flwr.app import Context, Message
from flwr.clientapp import ClientApp

from ondevice.federate.local_round import evaluate_weights, train_round
from ondevice.federate.messages import Introduction, Order, from_record, to_record
from ondevice.federate.participant import Participant

OpenParticipant = Callable[[Context], AbstractContextManager[Participant]]


def make_client_app(open_participant: OpenParticipant) -> ClientApp:
    """A ClientApp for boards that are opened for each message.

    Args:
        open_participant: Gives the node's board and data by its `node_config`; must be picklable
            for simulations.
    """
    app = ClientApp()

    @app.query()  # type: ignore[untyped-decorator]
    def introduce(message: Message, context: Context) -> Message:
        with open_participant(context) as participant:
            known = Introduction(
                participant.name,
                str(participant.manifest["model_id"]),
                len(participant.samples),
                participant.connection.device.info.board,
            )
        return Message(to_record(known), reply_to=message)

    @app.train()  # type: ignore[untyped-decorator]
    def train(message: Message, context: Context) -> Message:
        order = from_record(Order, message.content)
        with open_participant(context) as participant:
            report = train_round(participant, order)
        return Message(to_record(report), reply_to=message)

    @app.evaluate()  # type: ignore[untyped-decorator]
    def evaluate(message: Message, context: Context) -> Message:
        order = from_record(Order, message.content)
        with open_participant(context) as participant:
            report = evaluate_weights(participant, order)
        return Message(to_record(report), reply_to=message)

    return app
