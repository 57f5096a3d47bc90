#!/usr/bin/env bash
# Trains what benchmarks/translate.py compares, one model after the other, all on the same tokens:
#
#     benchmarks/peers/prepare.sh CORPUS PEERS [SYSTEM...]
#
# CORPUS holds train, dev and test as .en and .de. PEERS is a folder with an environment for each system,
# onmt, joey, marian and ct2 (README.md beside this folder says how they are made), and gets the models.
# SYSTEM: ours onmt joey marian ct2; all if none is named. MINUTES bounds each training of the others.
set -eu
corpus=$(realpath "$1") peers=$(realpath "$2")
shift 2
here=$(dirname "$(realpath "$0")")
cd "$here/../.."
minutes=${MINUTES:-30}
export OMP_NUM_THREADS=${THREADS:-1}
data=$peers/data models=$peers/models
mkdir -p "$data" "$models"

ours() {
  python -m s2scli preprocess --run "$peers/ours" --vocab-size 6000 --joint \
    --train-src "$corpus/train.en" --train-tgt "$corpus/train.de" \
    --dev-src "$corpus/dev.en" --dev-tgt "$corpus/dev.de" --test-src "$corpus/test.en" --test-tgt "$corpus/test.de"
  for name in train dev test; do
    for language in en de; do
      python benchmarks/peers/pieces.py encode "$peers/ours/data" \
        < "$corpus/$name.$language" > "$data/$name.$language"
    done
  done
  python benchmarks/peers/pieces.py vocabulary "$peers/ours/data" "$data"
  python -m s2scli train --run "$peers/ours" --hidden 512 --embedding 256 --encoder-layers 1 --decoder-layers 1 \
    --tie all --batch-tokens 1000 --max-steps 5000 --threads "$OMP_NUM_THREADS"
}

# Runs OpenNMT-py's training into models/NAME; the remaining words are its options.
train_onmt() {
  local out=$models/$1
  mkdir -p "$out"
  sed -e "s#DATA#$data#g; s#OUT#$out#" "$here/onmt.yaml" > "$out/config.yaml"
  # At the end of its time a training has left its last checkpoint.
  timeout "${minutes}m" "$peers/onmt/bin/onmt_train" -config "$out/config.yaml" "${@:2}" || [ $? = 124 ]
  ln -sf "$(ls -v "$out"/model_step_*.pt | tail -1)" "$out/model.pt"
}

onmt() {
  train_onmt onmt -encoder_type brnn -decoder_type rnn -rnn_type LSTM -enc_layers 1 -dec_layers 1 \
    -hidden_size 512 -enc_hid_size 512 -dec_hid_size 512 -word_vec_size 256 -global_attention general \
    -learning_rate 0.001 -train_steps 3000 -save_checkpoint_steps 250
}

joey() {
  mkdir -p "$models"
  sed -e "s#DATA#$data#g; s#OUT#$models/joey#" "$here/joeynmt.yaml" > "$models/joeynmt.yaml"
  timeout "${minutes}m" "$peers/joey/bin/python" -m joeynmt train "$models/joeynmt.yaml" --skip-test || [ $? = 124 ]
}

marian() {
  mkdir -p "$models/marian"
  cp "$data/vocab.marian.yml" "$models/marian/vocab.yml"
  # It saves its model when it is told to end.
  timeout "${minutes}m" "$peers/marian/bin/pymarian" --type s2s --enc-type bidirectional --enc-cell lstm \
    --dec-cell lstm --enc-depth 1 --dec-depth 1 --dim-emb 256 --dim-rnn 512 --tied-embeddings-all \
    --dropout-rnn 0.3 --label-smoothing 0.1 --optimizer adam --learn-rate 0.001 --mini-batch-words 1024 \
    --mini-batch-fit false --cpu-threads "$OMP_NUM_THREADS" -w 2000 --disp-freq 50 --save-freq 500 --overwrite \
    --seed 1 -t "$data/train.en" "$data/train.de" -v "$models/marian/vocab.yml" "$models/marian/vocab.yml" \
    -m "$models/marian/model.npz" || [ $? = 124 ]
}

# A Transformer of so many layers, width, heads and inner width, for CTranslate2.
transformer() {
  local name=$1 layers=$2 width=$3 heads=$4 inner=$5
  train_onmt "$name" -encoder_type transformer -decoder_type transformer -enc_layers "$layers" \
    -dec_layers "$layers" -hidden_size "$width" -word_vec_size "$width" -heads "$heads" -transformer_ff "$inner" \
    -self_attn_type scaled-dot -position_encoding -share_decoder_embeddings -attention_dropout 0.1 \
    -adam_beta2 0.98 -decay_method noam -warmup_steps 1000 -param_init 0 -param_init_glorot \
    -learning_rate 1e-9 -train_steps 1 -save_checkpoint_steps 1
  "$peers/onmt/bin/python" "$here/convert.py" "$models/$name/model.pt" "$models/ct2-$name"
}

ct2() {
  # One update with a learning rate of nearly nothing: random weights, which the speed does not depend on.
  transformer 4x128 4 128 4 512
  transformer 6x512 6 512 8 2048
}

for system in "${@:-ours onmt joey marian ct2}"; do
  for one in $system; do "$one"; done
done
