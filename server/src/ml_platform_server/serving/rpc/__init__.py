"""The forms of the prediction RPCs: batches by rows and by columns, streams, and what their replies share."""
