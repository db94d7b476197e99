"""Which keys of a config.json change what a model computes, and the judgement over those that nobody read.

A key of MEANING that a family did not read must hold the value that changes nothing, or what the family computes in any
case (Family.computes); else the conversion is refused by name. Keys of training, of other heads and of notes are PLAIN.
The keys are those of transformers' configurations and models, and of the published files that it reads.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping
from typing import Any

from pyggml.converters.config_json import Config
from pyggml.errors import UnsupportedError
from pyggml.shown import clip

log = logging.getLogger("pyggml")

Values = tuple[Any, ...]

SILU: Values = ("silu", "swish")
GELU: Values = ("gelu", "gelu_python")
GELU_TANH: Values = ("gelu_pytorch_tanh", "gelu_new", "gelu_fast", "gelu_python_tanh", "gelu_accurate")
_ACT_KEYS = ("hidden_act", "hidden_activation", "activation_function")


def activation(*names: str) -> dict[str, Values]:
    """An entry of Family.computes: the activation by any of its keys."""
    return dict.fromkeys(_ACT_KEYS, names)


_OFF: Values = (False, 0)
_ONE: Values = (1,)
_NO_LIST: Values = ([], {}, False, 0)
_NEVER: Values = ()
_FULL = frozenset(("full_attention", "attention", "full"))


def _groups(*rows: tuple[str, Values, str]) -> dict[str, tuple[Values, str]]:
    return {key: (neutral, effect) for keys, neutral, effect in rows for key in keys.split()}


MEANING: Mapping[str, tuple[Values, str]] = _groups(
    # keys, values that change nothing, what any other value does
    ("hidden_act hidden_activation activation_function activation mlp_hidden_act ffn_act_fn act_fn", _NEVER,
     "another activation in the feed-forward"),
    ("swiglu_limit swiglu_alpha swiglu_limits activation_limit mlp_activation_limit", _NEVER, "a clamped activation"),
    ("activation_sparsity_pattern", _NEVER, "a sparse activation"),
    # which positions are seen
    ("sliding_window attention_window window_size attention_chunk_size chunk_attention_size", _OFF,
     "attention to the last tokens only"),
    ("use_sliding_window use_swa layer_sliding", _OFF, "attention to the last tokens only"),
    ("layer_types attention_types attn_type_list layers_block_type", _NEVER, "layers of different kinds"),
    ("sliding_window_pattern sliding_window_size global_attn_every_n_layers full_attn_idxs", _NEVER,
     "layers with windows"),
    ("use_bidirectional_attention is_encoder_decoder add_cross_attention prefix_lm", _OFF,
     "attention that is not causal, or to another model"),
    ("is_causal causal", (True,), "attention that is not causal"),
    ("num_kv_shared_layers attention_k_eq_v use_cla cla_share_factor", _OFF, "layers that share keys and values"),
    # positions
    ("rope_scaling rope_parameters", _NO_LIST, "another rotation of the positions"),
    ("rope_theta rotary_emb_base rope_base rope_local_base_freq rotary_base original_max_position_embeddings", _NEVER,
     "rotated positions"),
    ("partial_rotary_factor rotary_pct rope_pct rope_ratio", _ONE, "a rotation of a part of each head"),
    ("rotary_dim", _NEVER, "a rotation of a part of each head"),
    ("rope_interleave rope_interleaved interleaved_rope interleave_rope", _NEVER, "a rotation of other pairs"),
    ("alibi use_alibi attn_alibi", _OFF, "a bias by distance (ALiBi)"),
    ("alibi_bias_max", _NEVER, "a bias by distance (ALiBi)"),
    ("position_embedding_type pos_emb position_encoding", ("absolute", "rope", "rotary"), "other positions"),
    ("no_rope_layers nope_layers no_rope_layer_interval nope_layer_interval no_rope", _NO_LIST, "layers without rope"),
    ("mrope_section use_mrope", _NO_LIST, "positions of several axes"),
    ("attn_temperature_tuning attention_temperature_tuning llama_4_scaling_beta attn_scale floor_scale log_scaled_attn "
     "use_logn_attn", _OFF, "attention scaled by the position"),
    # attention
    ("clip_qkv qkv_clip clamp_kqv", _OFF, "clipped queries, keys and values"),
    ("qk_layernorm use_qk_norm qk_norm use_qk_layernorm qk_layer_norm", _OFF, "a norm of queries and keys"),
    ("attn_logit_softcapping attention_logit_softcapping attn_logit_softcap attention_logit_cap", _OFF,
     "a soft cap of the attention's scores"),
    ("query_pre_attn_scalar attention_multiplier attention_scaling attn_scaling softmax_scale", _NEVER,
     "another scale of the attention's scores"),
    ("scale_attn_weights", (True,), "attention without its scale"),
    ("scale_attn_by_inverse_layer_idx scale_attention_by_inverse_layer_idx", _OFF, "attention scaled by the layer"),
    ("attention_sink attention_sinks use_attention_sinks use_attn_sink add_attention_sink", _NO_LIST,
     "attention sinks"),
    ("attention_gate use_attention_gate attn_output_gate gated_attention use_gated_attention", _OFF,
     "gated attention"),
    ("q_lora_rank kv_lora_rank qk_nope_head_dim qk_rope_head_dim v_head_dim", _OFF, "latent attention"),
    ("index_topk index_n_heads", _OFF, "sparse attention"),
    ("linear_num_value_heads linear_conv_kernel_dim mamba_d_state mamba_num_heads ssm_state_size mamba_d_conv "
     "hybrid_override_pattern conv_L_cache", _OFF, "layers that are no attention"),
    # scales
    ("embedding_multiplier residual_multiplier logits_scaling logit_scale logits_scale lm_head_multiplier "
     "embedding_scale scale_emb scale_depth embeddings_scale output_multiplier_scale embedding_multiplier_scale "
     "key_multiplier attention_in_multiplier attention_out_multiplier residual_scale", _ONE,
     "scaled embeddings, residuals or logits"),
    ("dim_model_base mup_width_scale mup_base_width", _NEVER, "scaled logits"),
    ("scale_embedding scale_embeddings normalize_embedding normalize_embeddings use_mup", _OFF, "scaled embeddings"),
    ("final_logit_softcapping final_logit_softcap logits_soft_cap logit_softcap output_logit_softcap", _OFF,
     "a soft cap of the logits"),
    # blocks
    ("use_parallel_residual parallel_attn parallel_residual parallel_block use_parallel_block", _OFF,
     "attention and feed-forward beside each other"),
    ("post_norm use_post_norm apply_residual_connection_post_layernorm norm_after use_sandwich_norm sandwich_norm",
     _OFF, "norms in other places"),
    ("norm_type normalization_type layer_norm_type", ("rmsnorm", "rms_norm"), "another norm"),
    ("layer_norm_eps layer_norm_epsilon norm_epsilon norm_eps rms_norm_eps rms_norm_epsilon", _NEVER,
     "another epsilon of the norms"),
    ("add_unit_offset rms_norm_add_unit_offset zero_centered_gamma layernorm_zero_centered", _OFF,
     "norm weights stored minus one"),
    ("hidden_size_per_layer_input vocab_size_per_layer_input", _OFF, "embeddings of each layer"),
    ("per_layer_config block_configs layer_configs layers_config", _NO_LIST, "layers of different shapes"),
    ("num_loops total_ut_steps num_recurrent_steps recurrent_depth", _ONE, "layers that run several times"),
    ("num_nextn_predict_layers num_mtp_layers", _OFF, "layers that predict further tokens"),
    ("tie_encoder_decoder", _OFF, "shared layers"),
    # experts
    ("num_experts num_local_experts n_routed_experts moe_num_experts num_moe_experts n_experts enable_moe_block",
     _OFF, "experts"),
    ("num_experts_per_tok num_experts_per_token moe_topk moe_top_k top_k_experts moe_k", (0, 1), "experts"),
    ("n_shared_experts num_shared_experts moe_num_shared_experts", _OFF, "experts that every token passes"),
    ("moe_intermediate_size shared_expert_intermediate_size shared_intermediate_size", _OFF, "experts"),
    ("norm_topk_prob", _OFF + (True,), "another sum of the experts' weights"),  # families with experts read it
    ("moe_renormalize renormalize norm_topk norm_expert_weight", _NEVER, "another sum of the experts' weights"),
    ("mlp_only_layers moe_layers moe_layer_indices dense_layers mlp_layer_types", _NO_LIST,
     "dense layers between those of experts"),
    ("decoder_sparse_step moe_layer_freq moe_every_n_layers interleave_moe_layer_step moe_layer_interval", _ONE,
     "dense layers between those of experts"),
    ("first_k_dense_replace moe_layer_start_index num_dense_layers", _OFF, "dense layers before those of experts"),
    ("n_group topk_group num_expert_group num_limited_groups", _ONE, "experts chosen by groups"),
    ("scoring_func router_activation moe_router_activation score_function moe_gating_func",
     ("softmax",), "another router"),
    ("topk_method router_topk_method", ("greedy",), "another router"),
    ("use_routing_bias moe_router_enable_expert_bias router_bias moe_router_bias use_expert_bias", _OFF,
     "a router with a bias"),
    ("routed_scaling_factor moe_routed_scaling_factor router_scaling_factor route_scale", _ONE,
     "scaled experts"),
    ("router_logit_softcapping router_logit_softcap", _OFF, "a soft cap of the router"),
    ("type_vocab_size token_type_vocab_size", _OFF, "token types"),
    ("embedding_size", _NEVER, "a projection of the embedding"),
)  # fmt: skip

_PLAIN = """
    _name_or_path name_or_path model_type architectures transformers_version auto_map custom_pipelines text_config
    vision_config audio_config dtype torch_dtype use_cache use_return_dict return_dict initializer_range
    initializer_factor pretraining_tp id2label label2id num_labels problem_type finetuning_task task_specific_params
    output_hidden_states output_attentions output_router_logits router_aux_loss_coef router_jitter_noise
    router_z_loss_coef aux_loss_alpha seq_aux ep_size attn_implementation _attn_implementation
    _attn_implementation_autoset _experts_implementation _flash_attn_2_enabled use_flash_attn use_flash_attention
    gradient_checkpointing chunk_size_feed_forward pruned_heads torchscript tf_legacy_loss use_bfloat16 attention_bias
    qkv_bias mlp_bias use_bias bias attention_out_bias qkv_proj_bias lm_head_bias cross_attention_hidden_size
    reorder_and_upcast_attn residual_in_fp32 fp32_residual upcast_softmax attention_softmax_in_fp32 head_dim
    qk_head_dim vocab_size pad_vocab_size_multiple tokenizer_class prefix language unsloth_version unsloth_fixed
    tie_word_embeddings quantization_config neftune_noise_alpha is_decoder max_length min_length do_sample num_beams
    num_beam_groups diversity_penalty temperature top_k top_p typical_p repetition_penalty length_penalty
    no_repeat_ngram_size encoder_no_repeat_ngram_size bad_words_ids num_return_sequences output_scores
    return_dict_in_generate forced_bos_token_id forced_eos_token_id remove_invalid_values early_stopping
    exponential_decay_length_penalty suppress_tokens begin_suppress_tokens decoder_start_token_id bos_token_id
    eos_token_id pad_token_id sep_token_id cls_token_id mask_token_id unk_token_id bos_token eos_token pad_token
    summary_type summary_use_proj summary_activation summary_proj_to_labels summary_first_dropout summary_last_dropout
    classifier_dropout classifier_bias gradient_clipping mm_tokens_per_image boi_token_index eoi_token_index
    image_token_index boi_token_id eoi_token_id image_token_id max_window_layers model_max_length seq_length
    max_sequence_length training_context_length n_ctx rescale_prenorm_residual num_logits_to_keep is_training init_std
    init_method altup_coef_clip altup_lr_multiplier laurel_rank image_token_id video_token_id boa_token_id
    eod_token_id eoa_token_index audio_token_id eoa_token_id vision_soft_tokens_per_image audio_soft_tokens_per_image
    use_qkv_bias norm_bias decoder_bias classifier_pooling classifier_activation sparse_prediction
    sparse_pred_ignore_index deterministic_flash_attn reference_compile initializer_cutoff_factor
    mamba_chunk_size mamba_conv_bias mamba_proj_bias projectors_bias use_conv_bias time_step_min time_step_max
    time_step_floor time_step_scale time_step_init_scheme use_mamba_kernels use_mambapy use_associative_scan
    use_falcon_mambapy mamba_ssm_cache_dtype moe_shared_expert_overlap mtp_layers_block_type
"""
PLAIN = frozenset(_PLAIN.split())
"""Keys without an effect on what a loaded model computes; a bias is there where its tensor is."""


def check_all_taken(c: Config, computes: Mapping[str, Values], arch: str) -> None:
    """Raises UnsupportedError for a key that changes the model and that nobody read, or that says what arch cannot do.

    computes: key -> the values that the family computes, whoever read the key. Keys that are not known are told in the
    log.
    """
    unknown = []
    for key, value in c.left():
        if key in computes:
            _judge(c, key, value, computes[key], MEANING.get(key, ((), "something else"))[1], arch)
        elif key in MEANING:
            neutral, effect = MEANING[key]
            if key == "layer_types" and isinstance(value, list) and all(str(each) in _FULL for each in value):
                continue
            _judge(c, key, value, neutral, effect, arch)
        elif key not in PLAIN and not key.endswith(("dropout", "_pdrop", "dropout_prob")):
            unknown.append(key)
    for part in c.parts():
        for key, value in part.left():
            if value == 1:  # a factor that changes nothing
                continue
            raise part.refused(key, value, f"a GGUF of {arch} has no word for it; remove it if it is not needed")
    if unknown:
        log.info("%s: keys that are not known and were left out: %s", c.where, ", ".join(map(clip, sorted(unknown))))


def _judge(c: Config, key: str, value: Any, right: Iterable[Any], effect: str, arch: str) -> None:
    if any(value == each for each in right):
        return
    shown = " or ".join(clip(each) for each in right)
    raise UnsupportedError(
        f"{c.where}: {key} is {clip(value)} ({effect}), which a GGUF of {arch} cannot say"
        + (f"; it computes as with {shown}" if shown else "")
        + f". Without it the file would compute another model; if {key} is a mistake, correct it in config.json"
    )
